"""The listener for HL7 version 2 messages of the information system: orders, merged patients."""
