"""Fuzzing of everything that reads what strangers send: parsers of files, and of what the web process takes.

``make fuzz`` runs all of it for a while; ``test_subjects.py`` a short, repeatable part. Each subject has honest inputs,
which are changed by what knows their structure (bytes, JSON, zip members, protobuf fields, pickle instructions, text).
Hypothesis draws the changes and makes what it finds small; Atheris keeps those inputs that take new branches.
"""
