"""Images as files: OCI image layouts in CAR files and folders, written and read."""
