"""Where the containers of SageMaker run: as processes here, or in Docker."""
