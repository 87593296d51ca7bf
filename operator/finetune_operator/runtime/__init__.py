"""What any controller needs: connection, requests, watches, the store of watched objects, the queue of keys."""
