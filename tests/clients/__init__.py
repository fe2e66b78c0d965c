"""The main job, done by released clients that nobody here wrote."""
