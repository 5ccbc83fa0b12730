"""What each S3 operation does, by calls to the object service."""
