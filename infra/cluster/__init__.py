"""Clusters to run on: several nodes on this machine, KubeRay, AWS."""
