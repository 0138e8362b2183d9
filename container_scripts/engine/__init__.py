"""The training engine: LoRA on a frozen, quantised base, on one device. It never imports lorasum."""
