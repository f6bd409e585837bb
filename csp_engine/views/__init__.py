"""What pages, exports, the command line and an API show, as plain data read from a bundle."""
