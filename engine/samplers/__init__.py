"""Others' ways to draw better samples from a trained generator g and its discriminator D: what ours are compared with.

z [N, Z] are latents with a standard normal prior; g: z -> x; D: x -> logits [N], of a calibrated discriminator the log
of the density ratio p / q. Nothing here knows what x is. Whatever moves latents is an iterator over the latents, the
first as given; whatever chooses among them returns those that it has chosen.

    transport     DOT, DDLS, DGflow: gradient flows in the latents by the discriminator
    stein         SVGD: by a log-density and a kernel
    rejection     SIR, DRS, Metropolis-Hastings: choosing by the discriminator's ratios
    reweighting   latentRS, latentGA, latentRS+GA: choosing and moving by a learnt importance of latents
"""
