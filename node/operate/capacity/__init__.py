"""How much machine a given number of studies needs: the workload, a simulation of its queues, and what follows."""
