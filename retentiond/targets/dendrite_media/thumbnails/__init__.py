"""Thumbnails alone: policies may take them and leave the media; dendrite makes them again when they are asked for."""
