"""The world as AWS offers it: each module implements one port with boto3."""
