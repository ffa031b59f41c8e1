"""What the DAGs share: the Ames housing data and its loader."""
