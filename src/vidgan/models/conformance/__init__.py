"""Built models beside the layers and counts that their sources print."""
