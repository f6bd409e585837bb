"""The pass over the images: spread over devices, and watched for networks that change during it."""
