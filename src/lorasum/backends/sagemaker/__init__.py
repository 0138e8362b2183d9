"""The SageMaker backend: jobs and endpoints of the user's AWS account."""
