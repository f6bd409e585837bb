"""What is around every page: frame, navigation, access, problems, sharing."""
