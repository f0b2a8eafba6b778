"""SageMaker, doing the work: training jobs, tuning jobs, endpoints."""
