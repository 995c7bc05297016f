"""What a call costs: instructions, CPU time, start-up and memory, against the budgets of the design."""
