"""Apache Beam jobs, one file a job: `python -m beam_jobs.<job> --help`."""
