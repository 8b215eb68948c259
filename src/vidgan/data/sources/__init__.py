"""Source videos: files, frame folders, containers and published layouts."""
