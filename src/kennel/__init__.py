"""Take an image classifier from training code to a production system on AWS, or on one machine."""
