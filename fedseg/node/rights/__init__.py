"""What customers may ask for: requests and their deadlines, erasure, recipients, the service for privacy platforms."""
