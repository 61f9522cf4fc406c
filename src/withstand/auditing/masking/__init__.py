"""Is it the model that withstands, or are the attacks misled? Fifteen findings on masked gradients.

After Carlini et al. 2019 (arXiv:1902.06705), Athalye et al. 2018 (arXiv:1802.00420), Croce and Hein 2020
(arXiv:2003.01690) and Zimmermann et al. 2022 (arXiv:2206.13991).
"""
