"""Which form of a whole model keeps most in how many bytes?"""
