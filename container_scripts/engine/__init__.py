"""The training engine: LoRA on a frozen, quantized base, on one device. It never imports lorasum."""
