"""A build in shards: each measures some of the images, and a merge makes the bundle of them."""
