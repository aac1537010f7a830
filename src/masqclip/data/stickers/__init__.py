"""The miniature worlds: scenes of stickers on stuff, drawn from a seed, with exact truth."""
