"""Videos where they lie: files, frame folders, containers and published layouts."""
