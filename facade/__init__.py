"""What runtimes and people talk to: the registry API, the upstreams behind it, the admin API and the command line."""
