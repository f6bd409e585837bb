"""What pages, exports, the command line and an API show, as plain data read from a bundle.

A view takes a bundle and a memo and gives frozen data: raw numbers, and the words where several
outputs say the same. No HTML, no Streamlit, no environment.

What a build could know it has stored; views work out what depends on a choice made while reading:

- a query: matches and how they stand to chance (``finding``), by case (``case.searches``);
- gamma: labels ranked again, against random image sets at that gamma, and their scores along it
  (``neuron.candidates``);
- a label: what each pair of images adds to its score (``neuron.contributions``);
- groups of images: what sets each of the two groups apart (``images.groups``);
- a set of concepts: alignments, what chance reaches, kinds (``case.audit``);
- another layer or bundle: matches of neurons (``comparison``, ``case.fate``).

And, from stored arrays, what is quick enough to need no stage: what exemplars share
(``neuron.shared``), where an activation stands among all (``images.facts``), neurons with the
nearest concept vectors (``finding.examples``), how far apart the methods' labels lie
(``table.agreement``) and intervals of test figures (``case.accuracy``).
"""
