/* What differentiation (grad.c) and recomputation (recompute.c) share. */
#ifndef NANO_GRAPH_GRAD_H
#define NANO_GRAPH_GRAD_H

#include "graph/graph.h"

/* What is known of a tensor that was in the graph before its gradients. */
typedef struct nano_grad_state {
    bool depends;      /* on a parameter */
    bool reached;      /* the loss depends on it */
    bool crosses;      /* its memory is read by another layer than the one that wrote it */
    int32_t segment;   /* the layer, counted up in the order of the graph; leaves: unused */
    int32_t copy;      /* the same value computed again; -1: not yet */
    int32_t gradient;  /* the sum of what its readers gave so far; a parameter's: where it is kept; -1: none */
    int32_t views;     /* list of views of it whose gradient is known; -1: none */
    int32_t next_view; /* of the same list */
    int32_t n_writes;  /* of a cache */
} nano_grad_state;

typedef struct nano_backward {
    nano_graph *graph;
    nano_error *err;
    nano_status status; /* the first failure: nothing is appended after it */
    int32_t loss;
    int32_t n; /* tensors before the gradients */
    bool recompute;
    nano_grad_state *states; /* (n) */
    int32_t *stack;          /* (n) */
} nano_backward;

/* Tells layers apart, and which values cross from one to another. */
void nano_backward_find_layers(nano_backward *b);
/* A tensor that holds the value of tensor i now: i itself, or what computes it again. */
int32_t nano_backward_value(nano_backward *b, int32_t i);

#endif
