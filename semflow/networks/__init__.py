"""The networks: the velocity's UNet, frozen autoencoders, averaged weights."""
