"""From raw records to batches: records, titles, images, word vectors."""
