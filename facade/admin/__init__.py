"""What people and Prometheus ask a running node."""
