"""Batch jobs: from a folder to a cluster's worth of pictures, on Ray Data.

The way of a shard: `inputs` lists the pictures, `shards` cuts them and commits results, `worker`
holds the stages (read, encode, name), `job` lets Ray Data run them. `embeddings` and `records` are
the two tables that flow between the stages and that are kept.
"""
