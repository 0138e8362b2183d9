"""Files of rows, here or in S3: which ones there are, how they are opened, and how rows are read from them."""
