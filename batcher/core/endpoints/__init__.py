"""What differs between the endpoints: what a request asks, what an answer is, and where its body says so."""
