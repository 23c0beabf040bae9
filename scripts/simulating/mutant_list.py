"""All mutants of the list, by name."""

from typing import Final

from scripts.simulating.mutant_list_epochs import EPOCHS
from scripts.simulating.mutant_list_views import VIEWS
from scripts.simulating.mutant_list_votes import VOTES
from scripts.simulating.mutants import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = VOTES + VIEWS + EPOCHS
BY_NAME: Final = {mutant.name: mutant for mutant in MUTANTS}

LATE: Final = frozenset(
    {
        "certificate-of-a-higher-view",
        "certificate-overwritten-by-a-lower-one",
        "certificate-signer-twice",
        "certificate-unsigned",
        "chosen-block-not-demanded",
        "complaint-never",
        "complaint-without-effect",
        "fetched-body-unchecked",
        "fresh-block-of-an-older-view",
        "journal-certificate-ignored",
        "learned-certificate-unchecked",
        "next-height-unbounded",
        "prepared-by-anybody",
        "prepared-mixed",
        "prepared-mixed-digests",
        "proposer-unchecked",
        "removal-count-unchecked",
        "removal-id-unchecked",
        "removal-primaries-unchecked",
        "removal-witnesses-unchecked",
        "synced-block-unchecked",
        "synced-body-unchecked",
        "time-in-the-past",
        "time-unbounded",
        "timer-of-the-old-view-kept",
    }
)
"""Found only after dozens of seeds, or not yet (docs/simulation/mutants.md): a canary has to be found soon."""
