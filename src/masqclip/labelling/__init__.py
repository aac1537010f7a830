"""Folders of pictures become datasets: the job, its journal, and what each format writes."""
