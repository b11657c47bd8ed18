"""Thumbnails alone: policies may delete them and keep the media; dendrite makes them again on request."""
