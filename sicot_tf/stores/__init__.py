"""Folders of files: on a disk, on S3, on Cloud Storage."""
