"""Inference: stages that run pipelines in a confined child process and encode what they return; plug-ins and models."""
