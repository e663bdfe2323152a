"""Two towers over ids, features and text: a retriever that learns from who liked what."""
