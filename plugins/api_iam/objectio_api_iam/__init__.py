"""The AWS IAM and STS query APIs."""
