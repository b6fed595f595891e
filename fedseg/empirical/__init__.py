"""The privacy claim, put to the test on the code that ships: games whose guesser may win only so often."""
