"""What the tests of the reconciler on real servers share."""
