"""From parts to the demo that ships: built, measured, packed and checked."""
