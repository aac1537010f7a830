"""What goes in: images, transforms, datasets, vocabularies and the miniature world."""
