"""What a call costs: instructions, CPU time, start-up and memory, against budgets and ceilings."""
