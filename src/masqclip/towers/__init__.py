"""The two towers of a CLIP, of whatever family: one reads pictures, one reads words."""
