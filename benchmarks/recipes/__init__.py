"""Which recipe distils best, and which form keeps most of it in how many bytes?"""
