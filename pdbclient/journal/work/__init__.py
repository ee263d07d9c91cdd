"""What is done with it: submission, delivery, exported resources, recovery, audit, and the service of them all."""
