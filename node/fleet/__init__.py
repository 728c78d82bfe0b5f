"""Files of machines that share a ledger and have storage folders of their own.

Each machine serves its files to the others over HTTPS with mutual TLS (``node.fleet.file_service``). Whoever opens a
file that only another machine holds fetches a copy (``node.fleet.file_client``), which is compared with the digest in
the ledger. ``node.ledger.holdings`` says which machine to ask.
"""
