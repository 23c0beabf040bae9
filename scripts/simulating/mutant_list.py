"""All mutants of the list, by name."""

from typing import Final

from scripts.simulating.mutant_list_epochs import EPOCHS
from scripts.simulating.mutant_list_views import VIEWS
from scripts.simulating.mutant_list_votes import VOTES
from scripts.simulating.mutants import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = VOTES + VIEWS + EPOCHS
BY_NAME: Final = {mutant.name: mutant for mutant in MUTANTS}
